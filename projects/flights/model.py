"""The question asked at departure: will it arrive more than 15 minutes late."""

from mainstem.project import Estimator, Gates, Label, model

from .features import FlightDelay  # noqa: TID252 (as in features.py)

arrival_delay = model(
    "arrival_delay",
    feature_set="flight_delay",
    label=Label.of(FlightDelay),
    training_window="120d",
    evaluation_window="14d",
    estimator=Estimator(
        params={
            "max_iter": 200,
            "learning_rate": 0.06,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 100,
            "l2_regularization": 1.0,
        }
    ),
    gates=Gates(min_auc=0.85, max_auc_loss=0.005, confidence=0.95, max_calibration_error=0.05, max_flips=0),
    seed=2013,
)
