"""Predictions of persons: the features and targets, the model of `audience train`, drift, scores and their reasons.

features.py  the list of features and of targets, the only one
logistic.py  the model that `audience train` fits, as numbers
drift.py     how far features are from those of the training
scored.py    probabilities and reasons of rows of features
settings.py  the section `insight.predictions` of the configuration
"""
