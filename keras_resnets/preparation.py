"""How images are prepared for weights."""

# ImageNet's training images, RGB from 0 to 1, as torchvision and timm count them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
