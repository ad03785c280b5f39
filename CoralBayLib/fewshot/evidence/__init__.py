"""What one CT says of a prompted structure beside its deep features: intensity, position, geodesic distance."""
