"""`python -m keras_resnets` is the command `keras-resnets`."""

from keras_resnets.commands.app import main

main()
