"""Command that writes every generated file: `python -m tools.generate`."""

from tools.charts import CHARTS
from tools.generate.charts import outputs

if __name__ == "__main__":
    for path, make in outputs().items():
        path.write_text(make())
        print(path.relative_to(CHARTS.parent))
