"""A fit as an ArviZ `DataTree`, which saves to NetCDF and feeds every ArviZ function."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING

import arviz_base
import numpy as np

from gapjax import __version__

if TYPE_CHECKING:
    import xarray

    from gapjax.posterior.result import Fit

_PAIR = ["solver", "verifier"]


def to_datatree(fit: Fit) -> xarray.DataTree:
    """Posterior, sampler statistics, log-likelihood, replicates and data of all curves.

    Curves have different lengths, so checkpoints of all curves lie one after another along
    `checkpoint`, with the coordinates `curve_of` and `epoch` to tell them apart.
    """
    curves = fit.curves
    names = _distinct([c.curve.name for c in curves])
    epoch = np.concatenate([c.curve.epochs for c in curves])
    curve_of = np.repeat(names, [len(c.curve.epochs) for c in curves])
    posterior = {
        name: np.stack([c.numbers[name] for c in curves], axis=-1) for name in curves[0].numbers
    }
    posterior["mean"] = np.concatenate([c.mean for c in curves], axis=2)
    priors = [c.from_prior(seed=fit.seed) for c in curves]
    tree = arviz_base.from_dict(
        {
            "posterior": posterior,
            "prior": {
                name: np.stack([numbers[name] for numbers, _ in priors], axis=-1)[None]
                for name in curves[0].numbers
            },
            "prior_predictive": {
                "pair": np.concatenate([pair for _, pair in priors], axis=1)[None]
            },
            "sample_stats": {
                name: np.stack([c.sample_stats[name] for c in curves], axis=-1)
                for name in curves[0].sample_stats
            },
            "log_likelihood": {"pair": np.concatenate([c.log_likelihood for c in curves], axis=2)},
            # One chain: replicates are a thinned mixture of all of them.
            "posterior_predictive": {
                "pair": np.concatenate([c.replicated for c in curves], axis=1)[None]
            },
            "observed_data": {
                "pair": np.concatenate(
                    [np.stack([c.curve.solver, c.curve.verifier], axis=-1) for c in curves]
                )
            },
        },
        coords={"curve": names, "series": _PAIR, "checkpoint": np.arange(len(epoch))},
        dims={
            **{name: ["curve"] for name in (*curves[0].numbers, *curves[0].sample_stats)},
            "mean": ["checkpoint", "series"],
            "pair": ["checkpoint", "series"],
        },
        attrs={
            "/": {
                "gapjax": __version__,
                "numpyro": importlib.metadata.version("numpyro"),
                "jax": importlib.metadata.version("jax"),
                "law": fit.law,
                "method": fit.method,
                "seed": fit.seed,
                "labels": json.dumps([dict(c.curve.labels) for c in curves]),
                "units": "nats, epochs",
            }
        },
    )
    return tree.map_over_datasets(
        lambda ds: (
            ds.assign_coords(epoch=("checkpoint", epoch), curve_of=("checkpoint", curve_of))
            if "checkpoint" in ds.dims
            else ds
        )
    )


def write_netcdf(tree: xarray.DataTree, path: Path, *, every: int = 1) -> None:
    """Write a tree, its draws in single precision, compressed.

    **Arguments:**

    - `every`: of how many draws one is kept.
    """
    thinned = tree.map_over_datasets(
        lambda ds: ds.isel(draw=slice(None, None, every)) if "draw" in ds.dims else ds
    )
    thinned.attrs = {**tree.attrs, "every": every}
    encoding = {
        group.path: {
            str(name): {"zlib": True, "complevel": 1, "shuffle": True}
            | ({"dtype": "float32"} if values.dtype.kind == "f" and "draw" in values.dims else {})
            for name, values in group.data_vars.items()
            if values.ndim
        }
        for group in thinned.subtree
        if group.data_vars
    }
    thinned.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def _distinct(names: list[str]) -> list[str]:
    """Number the names if two curves happen to share one."""
    if len(set(names)) == len(names):
        return names
    return [f"{name} #{i}" for i, name in enumerate(names, start=1)]
