"""Click, look, click: what follows the user's prompts and shows the preview."""
