"""The question asked at a lift: will the rope show wear."""

from mainstem.project import Estimator, Gates, Label, model

wear = model(
    "wear",
    feature_set="strain",
    label=Label(source="inspected", key="lift", column="wear", above=50, wait="1d"),
    training_window="20d",
    evaluation_window="5d",
    estimator=Estimator(params={"max_iter": 20, "min_samples_leaf": 10}),
    gates=Gates(min_auc=0.6, max_auc_loss=0.5, confidence=0.95, max_calibration_error=0.5),
    seed=7,
)
