"""From a CT to its feature pyramid: preprocessing, embedding, whitening, and the store on disk."""
