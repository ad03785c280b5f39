"""Tables of scans with what is to be predicted: cells, rows, and the table of them."""
