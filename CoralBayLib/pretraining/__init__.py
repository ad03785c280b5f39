"""Self-supervised training of CoralBay's network on a person's own CTs (`coralbay pretrain`). Imports no torch."""
