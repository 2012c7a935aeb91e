"""What differs between the libraries that Keras runs on: gradients, compiled loops, assignment, fused layers."""
