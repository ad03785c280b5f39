"""Few-shot segmentation: prompts, the evidence in the CT, probes, and the labels they give."""
