"""Copy the front-end libraries out of node_modules into static/vendor: `make setup` runs this.

The icons that static/icons.txt names become one sprite. Source maps are left behind, and so are
the comments that point to them: Django's manifest storage follows every pointer.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"
FILES = {
    "@tabler/core/dist/css/tabler.min.css": "tabler.min.css",
    "echarts/dist/echarts.min.js": "echarts.min.js",
}
SOURCE_MAP = re.compile(r"(/\*|//)# sourceMappingURL=[^\n]*")


def copy_libraries() -> None:
    for source, target in FILES.items():
        text = (MODULES / source).read_text(encoding="utf-8")
        (VENDOR / target).write_text(SOURCE_MAP.sub("", text), encoding="utf-8")


def make_sprite() -> None:
    symbols = []
    for name in (ROOT / "static" / "icons.txt").read_text().split():
        svg = (MODULES / "@tabler/icons/icons/outline" / f"{name}.svg").read_text()
        shapes = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{" ".join(shapes.split())}</symbol>')
    sprite = f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>\n'
    (VENDOR / "icons.svg").write_text(sprite)


if __name__ == "__main__":
    VENDOR.mkdir(parents=True, exist_ok=True)
    copy_libraries()
    make_sprite()
