"""What a buyer will buy: BG/NBD for the number of purchases, Gamma-Gamma for their value, in NumPy.

numbers.py      logarithm of the gamma function, and the hypergeometric series that the expectation needs
maximum.py      the parameters of the largest likelihood
purchases.py    BG/NBD: how often a buyer comes back, and whether it still does
values.py       Gamma-Gamma: what a purchase of a buyer is worth
"""
