"""Side-by-side measurements of keras_resnets and its peers; README.md beside this file says how."""
