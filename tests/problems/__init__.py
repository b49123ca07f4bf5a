"""Problems with known solutions, one home for all folders.

- `base`: the record of a problem
- `ordinary`: small ordinary equations, and `GRADED`, whose errors are single powers of the step
- `detest`: the twenty-five problems of DETEST
- `fields`: vector fields without a problem, with closed forms or for every kind of state
- `constrained`: differential-algebraic equations
- `stiff`: stiff equations, with exact solutions and the standard ones
- `stochastic`: stochastic equations of every kind of noise
"""
