"""Files that are whole or are not there, and weight files of every Keras."""
