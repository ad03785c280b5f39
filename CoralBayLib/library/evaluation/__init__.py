"""How well a library finds scans and regions like a query, measured with labels of its scans."""
