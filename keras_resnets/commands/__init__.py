"""The command line, `keras-resnets`: its options in `app`, and one file a command."""
