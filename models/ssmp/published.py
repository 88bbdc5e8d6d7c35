"""What the paper reports (arXiv 2512.04426 and its supplement), to stand beside what is measured here.

Means over Test-ALL unless a key says otherwise; features are ImageBind's. docs/method.md section 5.
"""

from __future__ import annotations

from typing import Final

SSMP: Final = {"precision": 0.1888, "recall": 0.2126, "f1": 0.1996, "ld": 91.19, "aa": 0.68}

# F1 by variant, as the ablation command names them
SCHEDULES: Final = {"random": 0.1377, "linear_down": 0.1760, "linear_up": 0.1915, "self_paced": 0.1996}
MU_A: Final = {1.0: 0.1780, 0.98: 0.1996, 0.95: 0.1854, 0.9: 0.1731, 0.5: 0.1753, 0.0: 0.1698}
LAYERS: Final = {4: 0.1601, 5: 0.1710, 8: 0.1694}  # at TGT's width
TGT_F1: Final = 0.1240
DECODERS: Final = {"greedy": 0.1958, "self_corrective": 0.1996}
DECODERS_LD: Final = {"greedy": 92.60, "self_corrective": 91.19}
RELAXED_F1: Final = {"greedy": (0.557, 0.544), "self_corrective": (0.631, 0.622)}  # within 3 shots: Test-8, Test-74
LOSSES: Final = {"cross_entropy": 0.1996, "mse": 0.1211}
PERIODS: Final = {"2000-2009": 0.1838, "2010-2019": 0.2056, "2020-2029": 0.1759}
GENRES: Final = {"thriller": 0.2132, "action": 0.2060, "comedy": 0.2240, "adventure": 0.1877, "crime": 0.2419}
