"""Names of files and settings in a directory of sentence-transformers."""

from __future__ import annotations

MODULES = "modules.json"
TRANSFORMER_CONFIG = "sentence_bert_config.json"
CONFIG = "config_sentence_transformers.json"
CLASSES = "sentence_transformers.models"
# How releases before 5.4 wrote a mode of pooling: one switch each. In the order in which vectors of
# several modes stand behind each other.
SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_MODES = tuple(SWITCHES.values())
