"""`MIMEncoder`: codes, densities and new rows of tables, arrays and images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from mimachine._support.checks import whole
from mimachine._support.seeds import forked
from mimachine.data.tables.columns.conditions import conditions
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.likelihood.by_row import log_likelihood_by_row
from mimachine.estimation.tables.conditional import sample_given
from mimachine.estimator.base import Fitted
from mimachine.estimator.decoding import decoded
from mimachine.estimator.saved import of_trained
from mimachine.model.networks import evaluating
from mimachine.workflow.load_run import open_model

__all__ = ["MIMEncoder"]

_AT_ONCE = 1024


class MIMEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Fitted):
    """Codes of rows by a Mutual Information Machine, with densities, decoding and sampling.

    A transformer of scikit-learn: `transform` gives the means of q(z|x), `inverse_transform`
    decodes codes. It is a density model, too: `score_samples`, `score` and `sample`.

    Data frames are modelled as they are, with text, categories, dates, counts and missing values:
    each column gets a distribution by its kind. So are arrays with text or missing values. Other
    arrays get one likelihood for all values: normal for measurements, which are standardised,
    Bernoulli for zeros and ones, and a discretised logistic for grey levels.

    Args:
        n_components: Number of latent dimensions. None: 10, or 40 for 500 values per row or more,
            and at most the number of values.
        hidden: Sizes of the encoder's hidden layers; the decoder has them in reverse order. With
            convolutions one size.
        objective: Name of the training objective: "a-mim", "vae", "rae", "beta-vae",
            "auto-encoder", "mim" and others.
        prior: p(z) in training: "standard-normal", "learned-normal", "gaussian-mixture",
            "full-gaussian-mixture", "vampprior" or "flow". A mixture is fitted to the codes
            afterwards in any case, and used by `sample` and `score_samples`.
        likelihood: p(x|z): "auto", "columns", "gaussian", "bernoulli" or "discretized-logistic".
        architecture: Networks: "mlp", multi-layer perceptrons, "conv", convolutions of images, or
            "auto": conv for images whose shorter side has more than 16 pixels.
        columns: Kinds of columns of a table where they should not be inferred, such as
            {"city": "category", "age": "count"}: number, whole, count, category, ordered, boolean,
            date, datetime, time, duration, identifier or drop.
        max_epochs: Number of epochs. None: by the number of rows, see `Training.for_rows`; fewer
            with convolutions.
        training: A whole recipe in place of the default.
        validation_fraction: Share of the rows that choose the best epoch and the fitted prior; with
            0 all rows are for training, and the last epoch is kept.
        warm_start: Whether `fit` goes on from the weights of the last `fit`. The data must have the
            same columns; kinds and scales of columns stay.
        device: Device to train on, such as "cuda"; by default the best available.
        random_state: Seed, or generator, of weights, order, noise and the choice of validation
            rows.
        verbose: Whether to print what was decided about the columns, and show a progress bar.

    Attributes:
        model_: The trained model, an `mm.Joint`; in double precision, but for convolutions.
        generator_: The same with the prior that was fitted to the codes.
        n_components_: Number of latent dimensions.
        n_features_in_: Number of columns, or of values per image.
        feature_names_in_: Names of the columns, for data frames.
        n_iter_: Number of epochs.
        history_: Record of the training, see `History`.
        experiment_: Settings, see `Experiment`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x = load_iris().data
        >>> encoder = mm.MIMEncoder(n_components=2, random_state=0).fit(x)
        >>> encoder.transform(x).shape, encoder.sample(3).shape
        ((150, 2), (3, 4))
    """

    def transform(self, X: Any) -> NDArray[Any]:
        """Encode rows to the means of q(z|x).

        Args:
            X: Data with the columns of training.

        Returns:
            Codes (n_samples, n_components), float32 for float32 data and otherwise float64.

        Raises:
            ValueError: If X cannot be used.
        """
        rows = self.rows(X)
        mean = codes(self.model_, rows).mean.flatten(1).double().numpy()
        return mean.astype(np.float32) if getattr(X, "dtype", None) == np.float32 else mean

    def inverse_transform(self, X: Any) -> Any:
        """Decode codes.

        Args:
            X: Codes (n_samples, n_components).

        Returns:
            Means of p(x|z) in the units of the training data; for tables medians of numbers and the
            most probable levels. A data frame of the same library, if it was fitted to one.

        Raises:
            ValueError: If X cannot be used.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=np.float64, input_name="X", estimator=self)
        if z.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have codes of {self.n_components_} components, got {z.shape[1]}"
            )
        shape = self.model_.prior().event_shape
        given = torch.from_numpy(z).reshape(len(z), *shape).to(next(self.model_.parameters()).dtype)
        rows = decoded(self.model_, given)
        return self._reader.values(rows, drawn=False)

    def score_samples(self, X: Any, num_samples: int = 100) -> NDArray[np.float64]:
        """Log-likelihood of each row in nats, with the fitted prior.

        It is estimated by importance samples from the encoder, the same noise for every row, so it
        is a lower bound in expectation, and the estimate of a row does not depend on other rows.
        Densities are those of the original units; tables and grey levels have probabilities.
        `mm.log_likelihood(encoder.generator_, encoder.rows(X))` gives errors and flags.

        Args:
            X: Data with the columns of training.
            num_samples: Number of importance samples per row.

        Returns:
            Shape (n_samples,).

        Raises:
            ValueError: If X cannot be used.
        """
        rows = self.rows(X)
        found = log_likelihood_by_row(self.generator_, rows, num_samples).numpy()
        scores: NDArray[np.float64] = found - self._reader.data.log_volume
        return scores

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of the rows in nats, see `score_samples`.

        Args:
            X: Data with the columns of training.
            y: Ignored.
        """
        return float(self.score_samples(X).mean())

    def sample(
        self,
        n_samples: int = 1,
        *,
        given: Mapping[str, Any] | None = None,
        complete: bool = False,
        random_state: Any = 0,
    ) -> Any:
        """Draw new rows, with codes from the fitted prior.

        Args:
            n_samples: Number of rows.
            given: Values that all rows have, of some columns of a table, such as {"city": "Lyon"};
                these rows are complete.
            complete: Whether all values of a table are drawn; otherwise values are missing as often
                as in training.
            random_state: Seed or generator.

        Returns:
            Rows like the training data: in their units, rounded as they are, in a data frame of the
            same library if it was fitted to one.

        Raises:
            ValueError: If `given` names no column, or a value that its column cannot have.
        """
        check_is_fitted(self)
        count = whole("n_samples", n_samples, 1)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        if given is not None:
            return self._sample_given(count, given, seed)
        options = {"complete": complete} if self._reader.is_table else {}
        model = self.generator_
        with torch.no_grad(), forked(seed), evaluating(model):
            z = model.prior().sample((count,))
            decoder: Any = model.decoder
            rows = [decoder(part).sample(**options) for part in z.split(_AT_ONCE)]
        return self._reader.values(torch.cat(rows), drawn=True)

    def _sample_given(self, count: int, given: Mapping[str, Any], seed: int) -> Any:
        schema = self._reader.data.schema
        if schema is None:
            raise ValueError("given is for tables whose columns have kinds, see likelihood")
        row = conditions(schema, [f"{name}={value}" for name, value in given.items()]).row
        drawn = sample_given(self.generator_, torch.from_numpy(row).double(), count, seed=seed)
        return self._reader.values(drawn.rows[0], drawn=True)

    @classmethod
    def from_run(cls, path: str | os.PathLike[str]) -> MIMEncoder:
        """A fitted estimator from a run directory of `mimachine train`, `mm.train` or `save`.

        Args:
            path: The directory. The data of the run are not read.

        Raises:
            FileNotFoundError: If the run or its weights do not exist.
            ValueError: If a file of the run is damaged, or the run is on a named data set.
        """
        return of_trained(open_model(path), cls)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
