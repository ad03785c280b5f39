"""The weights of all encoders on this computer: `manager` lists, fetches and deletes them, `bundle` carries them elsewhere."""
