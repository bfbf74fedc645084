"""Which evaluation images occur in the training data, and what that changes in the results (CLIP paper, section 5).

A copy detector embeds both sides, each evaluation image is searched in the training data, a person reviews pairs around
the threshold, and the accuracy on overlapping, clean and all images is compared.
"""
