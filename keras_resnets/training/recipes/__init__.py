"""The recipes, one a file: `keras-resnets recipes` lists them.

In all of them weight decay acts on convolution and dense kernels only. Learning rates move every
step, where some sources move them every epoch.
"""
