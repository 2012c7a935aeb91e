"""Where states and rewards come from: gymnasium's environments and Atari's games behind one interface."""
