"""Does making a language model faster change whom it treats how?"""
