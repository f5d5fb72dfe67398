"""Does the picture hold where a band is not what clean pairs are?"""
