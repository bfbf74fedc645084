"""The exceptions that Diptych raises on purpose.

DiptychError
├── InputError (also ValueError)   an argument or an input file cannot be used
│   ├── ImageError                 an image cannot be decoded, or is too large
│   ├── TextError                  a text is empty, not UTF-8, or longer than the context
│   ├── DataError                  a shard, table, folder or evaluation set is broken or missing
│   ├── ShapeError                 the shapes of two arrays do not match
│   ├── ConfigError                a configuration is contradictory or out of range
│   └── WeightsError               a weight file or model folder is wrong or incomplete
├── ConversionError                a converted model differs too much from its original
├── WorkerError                    a process that reads or decodes data died
└── TrainingError                  training cannot continue
    ├── NonFiniteLossError         the loss became NaN or infinite
    ├── LossSpikeError             the loss rose far above its running mean
    └── CheckpointError            a checkpoint cannot be written or read

Every message says what is wrong, where, and what to do. The command line prints it without a traceback.
"""


class DiptychError(Exception):
    """Base of all errors that Diptych raises on purpose."""


class InputError(DiptychError, ValueError):
    """An argument or an input file cannot be used."""


class ImageError(InputError):
    """An image cannot be decoded, or is too large."""


class TextError(InputError):
    """A text is empty, not UTF-8, or longer than the context."""


class DataError(InputError):
    """A shard, table, folder or evaluation set is broken or missing."""


class ShapeError(InputError):
    """The shapes of two arrays do not match."""


class ConfigError(InputError):
    """A configuration is contradictory or out of range."""


class WeightsError(InputError):
    """A weight file or model folder is wrong or incomplete."""


class ConversionError(DiptychError):
    """A converted model differs too much from its original; nothing was written."""


class WorkerError(DiptychError):
    """A process that reads or decodes data died."""


class TrainingError(DiptychError):
    """Training cannot continue."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class LossSpikeError(TrainingError):
    """The loss rose far above its running mean."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written or read."""
