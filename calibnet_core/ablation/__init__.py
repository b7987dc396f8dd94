"""The paper's ablation study (tables III to XII): what each row is, and what it costs.

`rows` names every row with the settings and loss weights that a run of it needs, `cost` counts
parameters and multiply-adds, `latency` measures time, `report` sets all of it beside the paper's
columns. `docs/ablations.md` tells what was assumed where the paper is silent.
"""
