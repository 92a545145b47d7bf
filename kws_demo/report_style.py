"""The style sheet of the report: one set of colour names, given twice, for light and for dark pages."""

from __future__ import annotations

LIGHT = """
--paper:#f6f6f3;--card:#fff;--ink:#1b1f24;--muted:#5b646e;--faint:#8d969f;--line:#e3e5e8;--absent:#d5dade;
--accent:#0b62c4;--good:#14743a;--bad:#c03a1c;--good-wash:#e4f4e9;--bad-wash:#fbe9e4;--wait-wash:#eef0f2;
--s0:#0b62c4;--s1:#d9480f;--s2:#2b8a3e;--s3:#9c36b5;--s4:#a67c00;--s5:#0c8599;--s6:#c2255c;--s7:#5f3dc4;
--h0:#e8b13a;--h1:#e98f2c;--h2:#de6628;--h3:#c43d2e;--h4:#94193a;
--t0:#482878;--t1:#3f4889;--t2:#32648e;--t3:#277f8e;--t4:#1f9a8a;--t5:#3fb073;--t6:#7cc24f;--t7:#b9cc33
"""
DARK = """
--paper:#121518;--card:#1a1e22;--ink:#e9ecef;--muted:#a3adb7;--faint:#6c767f;--line:#2b3137;--absent:#414a52;
--accent:#5aa7ff;--good:#5ecb84;--bad:#ff8a66;--good-wash:#153322;--bad-wash:#3d1f17;--wait-wash:#23282d;
--s0:#5aa7ff;--s1:#ff9248;--s2:#69db7c;--s3:#da77f2;--s4:#fcc419;--s5:#3bc9db;--s6:#ff78a6;--s7:#a18cff;
--h0:#ffe08a;--h1:#ffbf5e;--h2:#ff9451;--h3:#ff6a5e;--h4:#ff4d8d;
--t0:#6a4fb0;--t1:#5b68bf;--t2:#4d80c4;--t3:#3f9ac6;--t4:#38b3b5;--t5:#58cb8c;--t6:#9bdd60;--t7:#dcea4a
"""
PAGE = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}
h1{text-wrap:balance;font-size:28px;line-height:1.2;margin:6px 0 10px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 4px}
p{margin:0 0 10px}
.lead{color:var(--muted);max-width:76ch;font-size:15px}
.eyebrow{color:var(--muted);font-size:14px;margin:0}
.verdict{border-radius:14px;padding:22px 24px;margin-bottom:18px;
background:var(--wait-wash);border-left:6px solid var(--faint)}
.verdict.kept{background:var(--good-wash);border-color:var(--good)}
.verdict.exceeded{background:var(--bad-wash);border-color:var(--bad)}
.verdict p:last-child{margin:0}
.kept b{color:var(--good)}
.exceeded b{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,280px),1fr));gap:12px;margin:0 0 18px}
@media(max-width:700px){.tiles{grid-template-columns:1fr 1fr}}
.tile,section{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:12px 16px}
.tile span{display:block;color:var(--muted);font-size:13px}
.tile strong{display:block;font-size:21px;line-height:1.3;overflow-wrap:anywhere}
.tile small{color:var(--muted);font-size:13px;overflow-wrap:anywhere}
nav{font-size:14px;margin:0 0 18px;color:var(--muted)}
nav a{color:var(--accent);text-decoration:none;margin-right:14px;white-space:nowrap}
section{padding:20px 20px 16px;margin-bottom:18px;min-width:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:0 18px}
.pair+.lead,figure+.lead{margin-top:22px}
figure{margin:8px 0 0;overflow-x:auto}
figcaption{color:var(--muted);font-size:13px}
.absent-note{color:var(--muted);font-style:italic}
table{border-collapse:collapse;width:100%;font-size:14px;margin-top:8px}
td,th{padding:5px 10px 5px 0;text-align:left;vertical-align:top;border-top:1px solid var(--line);
font-weight:400;overflow-wrap:anywhere}
th{color:var(--muted);white-space:nowrap;width:1%}
td.figure{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;width:1%}
.share{display:block;height:9px;margin-top:6px;border-radius:3px;background:var(--accent);min-width:2px}
tr.total>*{border-top:2px solid var(--faint);font-weight:600;color:var(--ink)}
pre{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:10px 14px;
overflow-x:auto;font:14px/1.5 ui-monospace,Menlo,Consolas,monospace;margin:6px 0 12px}
footer{color:var(--muted);font-size:13px}
"""
DRAWING = """
svg{display:block;width:100%;height:auto;font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
svg.full{min-width:760px}
svg.half{max-width:560px}
text{fill:var(--ink)}
.small{font-size:12px;fill:var(--muted)}
.tick{font-size:11px;fill:var(--muted);font-variant-numeric:tabular-nums}
.strong{font-weight:600;fill:var(--ink)}
.halo{paint-order:stroke;stroke:var(--card);stroke-width:3.5px;stroke-linejoin:round}
.grid{stroke:var(--line)}
.axis{stroke:var(--faint)}
.limit{stroke:var(--bad);stroke-width:1.6;stroke-dasharray:6 4}
.beyond{fill:var(--bad);fill-opacity:.07}
.predicted{fill:none;stroke:var(--accent);stroke-width:1.6;stroke-dasharray:4 3}
.measured{fill:var(--accent)}
.aside{fill-opacity:.38}
.whisker{stroke:var(--ink);stroke-width:1.6}
.hollow{fill:var(--card);stroke:var(--muted);stroke-width:1.6}
.front{fill:none;stroke:var(--faint);stroke-width:1.4;stroke-dasharray:2 3}
.move{stroke:var(--faint);stroke-width:1.2}
.solid{fill:var(--accent)}
.solid.over{fill:var(--bad)}
.solid.chosen{fill:var(--good);stroke:var(--ink);stroke-width:2}
.solid.chosen.over{fill:var(--bad)}
.band{fill:var(--good);fill-opacity:.13}
.ideal{stroke:var(--good)}
.net{fill:var(--accent);fill-opacity:.75}
.net.over{fill:var(--bad)}
.front-end{fill:var(--s5)}
.fixed{fill:var(--s4)}
.edge{fill:var(--accent)}
.idle{fill:var(--faint)}
.total{fill:var(--ink)}
.absent{fill:none;stroke:var(--absent);stroke-width:1.2}
.absent.faint{stroke-width:1}
.live{fill:none;stroke-linecap:round}
.node{fill:var(--card);stroke:var(--absent)}
.node.used{stroke:var(--ink);stroke-width:1.6}
text.used{fill:var(--ink);font-weight:600}
.inside{font-size:10.5px;fill:var(--ink)}
text.unused{fill:var(--faint);font-weight:400}
.edge-name{font-size:11px}
.edge-name.halo{stroke-width:5px}
.heat-name{font-size:10.5px}
.score{fill:none;stroke-width:2;stroke-linejoin:round}
.sound{fill:var(--faint);fill-opacity:.6}
.pin{stroke-width:1.4}
.said-line{stroke:var(--muted);stroke-width:1;stroke-dasharray:1 3}
.said{fill:var(--muted)}
.heat{shape-rendering:crispEdges;fill:var(--accent)}
.framed{stroke:var(--line)}
.cell{fill:var(--paper)}
.inner{fill:var(--card)}
.right{fill:var(--good)}
.wrong{fill:var(--bad)}
.series-other{fill:var(--muted);stroke:var(--muted)}
"""


def drawing_rules() -> str:
    """What concerns drawings alone, without the colours."""
    series = "".join(
        f".series{index}{{fill:var(--s{index});stroke:var(--s{index})}}.score.series{index}{{fill:none}}rect.series{index},circle.series{index}{{stroke:none}}"
        for index in range(8)
    )
    heats = "".join(f".heat{index}{{stroke:var(--h{index})}}" for index in range(5))
    times = "".join(f".time{index}{{stroke:var(--t{index})}}" for index in range(8))
    arrows = "".join(
        f".arrow.{name}{index}{{fill:var(--{name[0]}{index});stroke:none}}"
        for name, count in (("heat", 5), ("time", 8))
        for index in range(count)
    )
    return f"{DRAWING}{heats}{times}{arrows}{series}".replace("\n", "")


def style_sheet() -> str:
    """The whole of it, for a style element."""
    dark = f"@media(prefers-color-scheme:dark){{:root{{color-scheme:dark;{DARK}}}}}"
    return f":root{{color-scheme:light;{LIGHT}}}{dark}{PAGE}".replace("\n", "") + drawing_rules()
