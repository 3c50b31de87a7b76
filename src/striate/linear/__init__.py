"""Linear classifiers of codes: a linear SVM and a softmax classifier, with C chosen by cross-validation."""

KINDS = ("svm", "softmax")
