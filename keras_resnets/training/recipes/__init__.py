"""The recipes, one a file: `keras-resnets recipes` lists them.

What holds for all of them, whatever their sources do: weight decay acts on convolution and dense
kernels only (fb.resnet.torch, ResNeXt and Res2Net decay everything, torchvision the classifier's
bias too); learning rates move every step, where some sources move them every epoch; training crops
are resized bilinearly (timm draws bilinear or bicubic) and images of validation bicubically.
"""
