"""What lies between a fitted probe and what a `Segmenter` gives: training points, log-odds, previews and labelmaps."""
