"""What the network sees: scans at the encoder's spacing, their crops, and random changes of these."""
