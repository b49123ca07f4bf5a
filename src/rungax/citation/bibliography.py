"""The references in BibTeX, and the keys of the references for each class and function."""

import re

SOURCES: dict[str, tuple[str, ...]] = {
    "optimistix": ("optimistix",),
    "lineax": ("lineax",),
    # Solvers.
    "Euler": ("euler1768", "maruyama1955"),
    "Heun": ("heun1900",),
    "Midpoint": ("runge1895",),
    "Ralston": ("ralston1962",),
    "RK4": ("kutta1901",),
    "Bosh3": ("bogacki1989",),
    "Tsit5": ("tsitouras2011",),
    "Dopri5": ("dormand1980", "shampine1986"),
    "Dopri8": ("prince1981",),
    "Vern6": ("verner2010",),
    "Vern7": ("verner2010",),
    "Vern8": ("verner2010",),
    "Vern9": ("verner2010",),
    "ImplicitEuler": ("euler1768", "hairer1996"),
    "TRBDF2": ("bank1985", "hosea1996"),
    "Kvaerno3": ("kvaerno2004",),
    "Kvaerno4": ("kvaerno2004",),
    "Kvaerno5": ("kvaerno2004",),
    "KenCarp3": ("kennedy2003",),
    "KenCarp4": ("kennedy2003",),
    "KenCarp5": ("kennedy2003",),
    "Sil3": ("whitaker2013",),
    "Rosenbrock23": ("shampine1997",),
    "ROS3P": ("lang2001",),
    "Rodas4": ("hairer1996",),
    "Rodas5P": ("steinebach2023",),
    "BDF": ("shampine1997", "brown1989"),
    "Auto": ("petzold1983", "hairer1996"),
    "HalfSolver": ("hairer1993",),
    "EulerHeun": ("rumelin1982", "kloeden1992"),
    "ReversibleHeun": ("kidger2021reversible",),
    "LeapfrogMidpoint": ("hairer1993", "shampine2009"),
    "SemiImplicitEuler": ("devogelaere1956", "hairer2006"),
    "VelocityVerlet": ("verlet1967", "hairer2003"),
    "Yoshida4": ("yoshida1990",),
    "KahanLi8": ("kahan1997",),
    "ItoMilstein": ("milstein1975", "kloeden1992"),
    "StratonovichMilstein": ("milstein1975", "kloeden1992"),
    "SRIW1": ("rossler2010", "rackauckas2017"),
    "DRI1": ("debrabant2009", "rossler2009"),
    "SEA": ("foster2022",),
    "SRA1": ("rossler2010",),
    "ShARK": ("foster2022",),
    "SPaRK": ("foster2022",),
    "GeneralShARK": ("foster2022",),
    "SlowRK": ("foster2022",),
    "ALIGN": ("jelincic2024",),
    "ShOULD": ("foster2021",),
    "QUICSORT": ("scott2025", "jelincic2024"),
    # Everything else.
    "VeryChord": ("hairer1996",),
    "VirtualBrownianTree": ("jelincic2024",),
    "AbstractSpaceTimeLevyArea": ("foster2020",),
    "AbstractSpaceTimeTimeLevyArea": ("foster2020", "jelincic2024"),
    "PIDController": ("soderlind2003", "hairer1996"),
    "RecursiveCheckpointAdjoint": ("griewank2000",),
    "BacksolveAdjoint": ("chen2018",),
    "adjoint_rms_seminorm": ("kidger2021seminorms",),
    "ImplicitAdjoint": ("blondel2022",),
    "ReversibleAdjoint": ("mccallum2024",),
}

BIBTEX = r"""
@misc{jax,
  author = {J. Bradbury and R. Frostig and P. Hawkins and M. J. Johnson and C. Leary and D. Maclaurin and G. Necula and
            A. Paszke and J. VanderPlas and S. Wanderman-Milne and Q. Zhang},
  title = {{JAX}: composable transformations of {Python+NumPy} programs},
  howpublished = {\url{https://github.com/jax-ml/jax}},
  year = {2018}
}

@misc{rungax,
  author = {{The Rungax authors}},
  title = {{Rungax}: differential equations in {JAX}, ordinary, stochastic and controlled},
  year = {2026}
}

@misc{optimistix,
  author = {J. Rader and T. Lyons and P. Kidger},
  title = {Optimistix: modular optimisation in {JAX} and {Equinox}},
  howpublished = {arXiv:2402.09983},
  year = {2024}
}

@misc{lineax,
  author = {J. Rader and T. Lyons and P. Kidger},
  title = {Lineax: unified linear solves and linear least-squares in {JAX} and {Equinox}},
  howpublished = {arXiv:2311.17283},
  year = {2023}
}

@book{euler1768,
  author = {L. Euler},
  title = {Institutionum calculi integralis},
  volume = {1},
  publisher = {Academia Imperialis Scientiarum},
  address = {St. Petersburg},
  year = {1768}
}

@article{maruyama1955,
  author = {G. Maruyama},
  title = {Continuous {Markov} processes and stochastic equations},
  journal = {Rendiconti del Circolo Matematico di Palermo},
  volume = {4},
  pages = {48--90},
  year = {1955}
}

@article{heun1900,
  author = {K. Heun},
  title = {Neue {Methoden} zur approximativen {Integration} der {Differentialgleichungen} einer unabh{\"a}ngigen
           {Ver{\"a}nderlichen}},
  journal = {Zeitschrift f{\"u}r Mathematik und Physik},
  volume = {45},
  pages = {23--38},
  year = {1900}
}

@article{runge1895,
  author = {C. Runge},
  title = {{\"U}ber die numerische {Aufl{\"o}sung} von {Differentialgleichungen}},
  journal = {Mathematische Annalen},
  volume = {46},
  pages = {167--178},
  year = {1895}
}

@article{ralston1962,
  author = {A. Ralston},
  title = {{Runge--Kutta} methods with minimum error bounds},
  journal = {Mathematics of Computation},
  volume = {16},
  pages = {431--437},
  year = {1962}
}

@article{kutta1901,
  author = {W. Kutta},
  title = {{Beitrag} zur n{\"a}herungsweisen {Integration} totaler {Differentialgleichungen}},
  journal = {Zeitschrift f{\"u}r Mathematik und Physik},
  volume = {46},
  pages = {435--453},
  year = {1901}
}

@article{bogacki1989,
  author = {P. Bogacki and L. F. Shampine},
  title = {A 3(2) pair of {Runge--Kutta} formulas},
  journal = {Applied Mathematics Letters},
  volume = {2},
  pages = {321--325},
  year = {1989}
}

@article{tsitouras2011,
  author = {Ch. Tsitouras},
  title = {{Runge--Kutta} pairs of order 5(4) satisfying only the first column simplifying assumption},
  journal = {Computers \& Mathematics with Applications},
  volume = {62},
  pages = {770--775},
  year = {2011}
}

@article{dormand1980,
  author = {J. R. Dormand and P. J. Prince},
  title = {A family of embedded {Runge--Kutta} formulae},
  journal = {Journal of Computational and Applied Mathematics},
  volume = {6},
  pages = {19--26},
  year = {1980}
}

@article{shampine1986,
  author = {L. F. Shampine},
  title = {Some practical {Runge--Kutta} formulas},
  journal = {Mathematics of Computation},
  volume = {46},
  pages = {135--150},
  year = {1986}
}

@article{prince1981,
  author = {P. J. Prince and J. R. Dormand},
  title = {High order embedded {Runge--Kutta} formulae},
  journal = {Journal of Computational and Applied Mathematics},
  volume = {7},
  pages = {67--75},
  year = {1981}
}

@article{verner2010,
  author = {J. H. Verner},
  title = {Numerically optimal {Runge--Kutta} pairs with interpolants},
  journal = {Numerical Algorithms},
  volume = {53},
  pages = {383--396},
  year = {2010}
}

@book{hairer1993,
  author = {E. Hairer and S. P. N{\o}rsett and G. Wanner},
  title = {Solving Ordinary Differential Equations {I}: Nonstiff Problems},
  edition = {2nd},
  publisher = {Springer},
  year = {1993}
}

@book{hairer1996,
  author = {E. Hairer and G. Wanner},
  title = {Solving Ordinary Differential Equations {II}: Stiff and Differential-Algebraic Problems},
  edition = {2nd},
  publisher = {Springer},
  year = {1996}
}

@article{bank1985,
  author = {R. E. Bank and W. M. Coughran and W. Fichtner and E. H. Grosse and D. J. Rose and R. K. Smith},
  title = {Transient simulation of silicon devices and circuits},
  journal = {IEEE Transactions on Computer-Aided Design of Integrated Circuits and Systems},
  volume = {4},
  pages = {436--451},
  year = {1985}
}

@article{hosea1996,
  author = {M. E. Hosea and L. F. Shampine},
  title = {Analysis and implementation of {TR-BDF2}},
  journal = {Applied Numerical Mathematics},
  volume = {20},
  pages = {21--37},
  year = {1996}
}

@article{kvaerno2004,
  author = {A. Kv{\ae}rn{\o}},
  title = {Singly diagonally implicit {Runge--Kutta} methods with an explicit first stage},
  journal = {BIT Numerical Mathematics},
  volume = {44},
  pages = {489--502},
  year = {2004}
}

@article{kennedy2003,
  author = {C. A. Kennedy and M. H. Carpenter},
  title = {Additive {Runge--Kutta} schemes for convection--diffusion--reaction equations},
  journal = {Applied Numerical Mathematics},
  volume = {44},
  pages = {139--181},
  year = {2003}
}

@article{whitaker2013,
  author = {J. S. Whitaker and S. K. Kar},
  title = {Implicit--explicit {Runge--Kutta} methods for fast--slow wave problems},
  journal = {Monthly Weather Review},
  volume = {141},
  pages = {3426--3434},
  year = {2013}
}

@article{shampine1997,
  author = {L. F. Shampine and M. W. Reichelt},
  title = {The {MATLAB ODE} suite},
  journal = {SIAM Journal on Scientific Computing},
  volume = {18},
  pages = {1--22},
  year = {1997}
}

@article{lang2001,
  author = {J. Lang and J. Verwer},
  title = {{ROS3P} -- an accurate third-order {Rosenbrock} solver designed for parabolic problems},
  journal = {BIT Numerical Mathematics},
  volume = {41},
  pages = {731--738},
  year = {2001}
}

@article{steinebach2023,
  author = {G. Steinebach},
  title = {Construction of {Rosenbrock--Wanner} method {Rodas5P} and numerical benchmarks within the {Julia Differential
           Equations} package},
  journal = {BIT Numerical Mathematics},
  volume = {63},
  note = {article 27},
  year = {2023}
}

@article{brown1989,
  author = {P. N. Brown and G. D. Byrne and A. C. Hindmarsh},
  title = {{VODE}: a variable-coefficient {ODE} solver},
  journal = {SIAM Journal on Scientific and Statistical Computing},
  volume = {10},
  pages = {1038--1051},
  year = {1989}
}

@article{petzold1983,
  author = {L. Petzold},
  title = {Automatic selection of methods for solving stiff and nonstiff systems of ordinary differential equations},
  journal = {SIAM Journal on Scientific and Statistical Computing},
  volume = {4},
  pages = {136--148},
  year = {1983}
}

@article{rumelin1982,
  author = {W. R{\"u}melin},
  title = {Numerical treatment of stochastic differential equations},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {19},
  pages = {604--613},
  year = {1982}
}

@book{kloeden1992,
  author = {P. E. Kloeden and E. Platen},
  title = {Numerical Solution of Stochastic Differential Equations},
  publisher = {Springer},
  year = {1992}
}

@inproceedings{kidger2021reversible,
  author = {P. Kidger and J. Foster and X. Li and T. Lyons},
  title = {Efficient and accurate gradients for neural {SDEs}},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {34},
  note = {arXiv:2105.13493},
  year = {2021}
}

@article{shampine2009,
  author = {L. F. Shampine},
  title = {Stability of the leapfrog/midpoint method},
  journal = {Applied Mathematics and Computation},
  volume = {208},
  pages = {293--298},
  year = {2009}
}

@techreport{devogelaere1956,
  author = {R. de Vogelaere},
  title = {Methods of integration which preserve the contact transformation property of the {Hamilton} equations},
  institution = {University of Notre Dame},
  number = {4},
  year = {1956}
}

@book{hairer2006,
  author = {E. Hairer and C. Lubich and G. Wanner},
  title = {Geometric Numerical Integration},
  edition = {2nd},
  publisher = {Springer},
  year = {2006}
}

@article{verlet1967,
  author = {L. Verlet},
  title = {Computer ``experiments'' on classical fluids. {I}. {Thermodynamical} properties of {Lennard-Jones}
           molecules},
  journal = {Physical Review},
  volume = {159},
  pages = {98--103},
  year = {1967}
}

@article{hairer2003,
  author = {E. Hairer and C. Lubich and G. Wanner},
  title = {Geometric numerical integration illustrated by the {St{\"o}rmer--Verlet} method},
  journal = {Acta Numerica},
  volume = {12},
  pages = {399--450},
  year = {2003}
}

@article{yoshida1990,
  author = {H. Yoshida},
  title = {Construction of higher order symplectic integrators},
  journal = {Physics Letters A},
  volume = {150},
  pages = {262--268},
  year = {1990}
}

@article{kahan1997,
  author = {W. Kahan and R.-C. Li},
  title = {Composition constants for raising the orders of unconventional schemes for ordinary differential equations},
  journal = {Mathematics of Computation},
  volume = {66},
  pages = {1089--1099},
  year = {1997}
}

@article{milstein1975,
  author = {G. N. Milstein},
  title = {Approximate integration of stochastic differential equations},
  journal = {Theory of Probability and its Applications},
  volume = {19},
  pages = {557--562},
  year = {1975}
}

@article{rossler2010,
  author = {A. R{\"o}{\ss}ler},
  title = {{Runge--Kutta} methods for the strong approximation of solutions of stochastic differential equations},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {48},
  pages = {922--952},
  year = {2010}
}

@article{rackauckas2017,
  author = {C. Rackauckas and Q. Nie},
  title = {Adaptive methods for stochastic differential equations via natural embeddings and rejection sampling with
           memory},
  journal = {Discrete and Continuous Dynamical Systems B},
  volume = {22},
  pages = {2731--2761},
  year = {2017}
}

@article{debrabant2009,
  author = {K. Debrabant and A. R{\"o}{\ss}ler},
  title = {Families of efficient second order {Runge--Kutta} methods for the weak approximation of {It{\^o}} stochastic
           differential equations},
  journal = {Applied Numerical Mathematics},
  volume = {59},
  pages = {582--594},
  year = {2009}
}

@article{rossler2009,
  author = {A. R{\"o}{\ss}ler},
  title = {Second order {Runge--Kutta} methods for {It{\^o}} stochastic differential equations},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {47},
  pages = {1713--1738},
  year = {2009}
}

@misc{foster2022,
  author = {J. Foster and G. dos Reis and C. Strange},
  title = {High order splitting methods for {SDEs} satisfying a commutativity condition},
  howpublished = {arXiv:2210.17543},
  year = {2022}
}

@article{foster2020,
  author = {J. Foster and T. Lyons and H. Oberhauser},
  title = {An optimal polynomial approximation of {Brownian} motion},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {58},
  pages = {1393--1421},
  year = {2020}
}

@misc{foster2021,
  author = {J. Foster and T. Lyons and H. Oberhauser},
  title = {The shifted {ODE} method for underdamped {Langevin} {MCMC}},
  howpublished = {arXiv:2101.03446},
  year = {2021}
}

@misc{jelincic2024,
  author = {A. Jelin{\v{c}}i{\v{c}} and J. Foster and P. Kidger},
  title = {Single-seed generation of {Brownian} paths and integrals for adaptive and high order {SDE} solvers},
  howpublished = {arXiv:2405.06464},
  year = {2024}
}

@misc{scott2025,
  author = {M. Scott and D. O'Kane and A. Jelin{\v{c}}i{\v{c}} and J. Foster},
  title = {Underdamped {Langevin} {MCMC} with third order convergence},
  howpublished = {arXiv:2508.16485},
  year = {2025}
}

@article{soderlind2003,
  author = {G. S{\"o}derlind},
  title = {Digital filters in adaptive time-stepping},
  journal = {ACM Transactions on Mathematical Software},
  volume = {29},
  pages = {1--26},
  year = {2003}
}

@article{griewank2000,
  author = {A. Griewank and A. Walther},
  title = {Algorithm 799: revolve: an implementation of checkpointing for the reverse or adjoint mode of computational
           differentiation},
  journal = {ACM Transactions on Mathematical Software},
  volume = {26},
  pages = {19--45},
  year = {2000}
}

@inproceedings{chen2018,
  author = {R. T. Q. Chen and Y. Rubanova and J. Bettencourt and D. Duvenaud},
  title = {Neural ordinary differential equations},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {31},
  year = {2018}
}

@inproceedings{kidger2021seminorms,
  author = {P. Kidger and R. T. Q. Chen and T. Lyons},
  title = {``{Hey}, that's not an {ODE}'': faster {ODE} adjoints via seminorms},
  booktitle = {International Conference on Machine Learning},
  year = {2021}
}

@inproceedings{blondel2022,
  author = {M. Blondel and Q. Berthet and M. Cuturi and R. Frostig and S. Hoyer and F. Llinares-L{\'o}pez and
            F. Pedregosa and J.-P. Vert},
  title = {Efficient and modular implicit differentiation},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022}
}

@misc{mccallum2024,
  author = {S. McCallum and J. Foster},
  title = {Efficient, accurate and stable gradients for neural {ODEs}},
  howpublished = {arXiv:2410.11648},
  year = {2024}
}

@inproceedings{pal2021,
  author = {A. Pal and Y. Ma and V. Shah and C. Rackauckas},
  title = {Opening the blackbox: accelerating neural differential equations by regularizing internal solver heuristics},
  booktitle = {International Conference on Machine Learning},
  year = {2021}
}
"""

LIBRARY: dict[str, str] = {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in BIBTEX.strip().split("\n\n")}
