"""Tables and figures of the CLIP paper, with measured numbers and the paper's own."""
