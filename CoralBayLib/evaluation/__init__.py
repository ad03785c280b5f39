"""How well probes from few labeled patients segment other patients: draws, tests, figures with intervals, reports."""
