"""Serve exported models on a web page and by HTTP.

python -m multitask_runtime.serve MODEL.onnx
"""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from multitask_runtime.onnx.inferencer import OnnxInferencer
from multitask_runtime.schemas import explain
from multitask_runtime.serve import Limits, ServedModel, serve


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog='python -m multitask_runtime.serve', description=__doc__)
    parser.add_argument('models', nargs='+', metavar='MODEL.onnx', help='exported models')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 for other machines')
    parser.add_argument('--port', type=int, default=8000)
    parser.add_argument('--device', default='auto')
    for name, field in Limits.model_fields.items():
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=type(field.default),
            default=field.default,
            help=f'{field.description} (default: {field.default})',
        )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Load the models and serve them."""
    args = parse_args(argv)
    try:
        limits = Limits.model_validate({name: getattr(args, name) for name in Limits.model_fields})
        models = [
            ServedModel(Path(path).stem, OnnxInferencer(path, args.device, show_progress=False))
            for path in args.models
        ]
        serve(models, args.host, args.port, limits)
    except ValidationError as error:
        raise SystemExit(explain(error)) from None
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    return 0


if __name__ == '__main__':
    sys.exit(main())
