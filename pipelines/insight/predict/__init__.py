"""Predictions of persons, beside the pass that shows them (pipelines/insight/predictions.py).

rows.py     features as of a time, and what happened after it
card.py     the card of a model: what it is, where it comes from, how good it was
folder.py   the folder or bucket of the models: written, read, a version chosen
forms.py    the forms of a model file, none of which is code
handler.py  a model in Beam's RunInference
fit.py      scikit-learn: a fit, its baselines, measures
train.py    `audience train`
"""
