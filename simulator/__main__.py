"""``python -m simulator``: serve it under gunicorn, one process, many threads."""

import argparse
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from simulator.app import Config, Simulator, create_app
from simulator.magnum.lifecycle import Timing
from simulator.magnum.personalities import ALIASES


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    def __init__(self, config: Config, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Simulator:
        return create_app(self._config)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="A simulated OpenStack: Keystone, Magnum, Nova, Glance, Neutron."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8780)
    parser.add_argument("--state-dir", type=Path, help="keep state here over restarts")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster work in the cloud goes")
    parser.add_argument("--cost-model", action="store_true", help="take the time that real Magnum takes for each call")
    parser.add_argument("--magnum-workers", type=int, default=1, help="how many of its calls Magnum works on at once")
    parser.add_argument("--token-seconds", type=float, default=3600.0)
    parser.add_argument("--create-seconds", type=float, default=4.0)
    parser.add_argument("--update-seconds", type=float, default=4.0)
    parser.add_argument("--delete-seconds", type=float, default=4.0)
    parser.add_argument("--spread", type=float, default=0.0, help="0.5: durations vary by half either way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--driver", choices=sorted(ALIASES), default="capi_helm", help="of new templates whose image it takes")
    parser.add_argument("--threads", type=int, default=32)
    given = parser.parse_args()
    if not given.speed > 0:
        parser.error("--speed must be greater than 0")
    timing = Timing(given.create_seconds, given.update_seconds, given.delete_seconds, given.spread)
    config = Config(
        given.state_dir, given.speed, given.cost_model, given.magnum_workers, given.token_seconds, timing, given.seed, given.driver
    )
    options = {
        "bind": f"{given.host}:{given.port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": given.threads,
        "keepalive": 75,
        "timeout": 120,
        "graceful_timeout": 3,
        "worker_connections": 2000,
        "accesslog": None,
        "loglevel": "warning",
    }
    _Server(config, options).run()


if __name__ == "__main__":
    main()
