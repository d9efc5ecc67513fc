"""`python -m pmlp_np` is the command `pmlp`."""

from pmlp_np.app.main import script

if __name__ == "__main__":
    script()
