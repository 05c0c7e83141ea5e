"""Settings: the list of options, their values from the command line and the configuration file, checked.

Nothing here imports Beam, so that a wrong option is reported at once; `config` reads what the graph needs of the file.
May import system, transforms.
"""
