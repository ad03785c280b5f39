"""What every room stands on: errors, progress, paths, devices, small tensor files. Imports no torch."""
