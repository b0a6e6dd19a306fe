"""The report's page: what stays the same whatever the weather was."""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --page: #f6f5f1; --card: #ffffff; --ink: #1d2126; --soft: #626b76; --line: #e4e2dc;
  --warm: #d9622b; --cool: #3a7fc4; --normal: #1d2126;
  --r0: #ecebe6; --r1: #c9def3; --r2: #93bfe6; --r3: #5596d1; --r4: #2368ab; --r5: #0d3f74;
  --l0: #2f78c4; --l1: #c2541b; --l2: #178a6b; --l3: #8a4fbf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121417; --card: #1b1e23; --ink: #eceae4; --soft: #9aa3ad; --line: #2e333a;
    --warm: #ef8450; --cool: #5aa2e6; --normal: #eceae4;
    --r0: #272b31; --r1: #1c3d5e; --r2: #215a8d; --r3: #3580c0; --r4: #69aee8; --r5: #bfe0fb;
    --l0: #5aa2e6; --l1: #ef8450; --l2: #3fbf98; --l3: #b88ae6;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 40px; }
header p { margin: 0; color: var(--soft); }
h1 { margin: 4px 0 8px; font-size: 38px; line-height: 1.15; letter-spacing: -0.015em; font-weight: 680; text-wrap: balance; }
h2 { margin: 0 0 2px; font-size: 20px; line-height: 1.3; font-weight: 640; }
section { margin-top: 20px; padding: 24px 24px 20px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
section > p { margin: 0 0 12px; color: var(--soft); font-size: 14.5px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 28px 0 0; }
.tile { padding: 14px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 2px 0 0; font-size: 25px; line-height: 1.25; font-weight: 640; font-variant-numeric: tabular-nums; }
.tile small { display: block; margin-top: 2px; color: var(--soft); font-size: 12.5px; line-height: 1.4; font-weight: 400; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 14px; color: var(--soft); font-size: 13px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.box { display: inline-block; width: 11px; height: 11px; border-radius: 3px; }
.stroke { width: 18px; height: 0; border-top: 2px solid var(--normal); }
.circle { width: 10px; height: 10px; border: 2px solid var(--normal); border-radius: 50%; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 720px; height: auto; font-family: inherit; }
.grid { stroke: var(--line); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 12px; text-anchor: middle; }
.tick.end { text-anchor: end; }
.name { fill: var(--ink); font-size: 15px; font-weight: 640; }
.name.small { font-size: 13px; }
.warm { fill: var(--warm); background: var(--warm); } .cool { fill: var(--cool); background: var(--cool); }
.normal { fill: none; stroke: var(--normal); stroke-width: 1.4; stroke-linejoin: round; pointer-events: none; }
.ring { fill: var(--card); fill-opacity: 0.01; stroke: var(--normal); stroke-width: 1.8; }
.r0 { fill: var(--r0); background: var(--r0); } .r1 { fill: var(--r1); background: var(--r1); }
.r2 { fill: var(--r2); background: var(--r2); } .r3 { fill: var(--r3); background: var(--r3); }
.r4 { fill: var(--r4); background: var(--r4); } .r5 { fill: var(--r5); background: var(--r5); }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.line.l0 { stroke: var(--l0); } .line.l1 { stroke: var(--l1); } .line.l2 { stroke: var(--l2); } .line.l3 { stroke: var(--l3); }
.dot.l0 { fill: var(--l0); } .dot.l1 { fill: var(--l1); } .dot.l2 { fill: var(--l2); } .dot.l3 { fill: var(--l3); }
rect:hover { stroke: var(--ink); stroke-width: 1; }
table { width: 100%; border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-size: 13px; font-weight: 500; text-align: left; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
td .box { margin-right: 8px; }
footer { margin-top: 24px; color: var(--soft); font-size: 13px; }
footer code { font-size: 12.5px; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<header>
<p>Weather report · $first to $last</p>
<h1>$title</h1>
</header>
<dl class="tiles">
$tiles
</dl>

<section>
<h2>$highs_head</h2>
<p>Each day’s high against what is normal for its date. Bars above the line are warmer days, bars below it colder ones.</p>
<div class="legend"><span><i class="box warm"></i>warmer than normal</span><span><i class="box cool"></i>colder than normal</span>
<span><i class="stroke"></i>normal high, °C</span><span><i class="circle"></i>unusual day</span></div>
<div class="scroll">$highs</div>
</section>

<section>
<h2>$calendar_head</h2>
<p>Precipitation of each day, in millimetres; one column is one week. From $wet_from mm on a day counts as wet.</p>
<div class="legend">$calendar_legend</div>
<div class="scroll">$calendar</div>
</section>

<section>
<h2>$rain_head</h2>
<p>Precipitation since the first of January, in millimetres.</p>
<div class="scroll">$rain</div>
</section>

<section>
<h2>$count unusual days</h2>
<p>Days whose high is at least $unusual standard deviations from the normal of their date.</p>
<div class="scroll"><table>
<thead><tr><th>Day</th><th>High</th><th>Normal</th><th>Standard deviations</th></tr></thead>
<tbody>
$rows
</tbody>
</table></div>
</section>

<footer>
<p>$days days at Seattle; source: NOAA, public domain. “Normal” is the mean of all years’ highs within 14 days of the date.<br>
Made by Runfold in run <code>$run</code>; the archive’s file came with attempt $tries.</p>
</footer>
</main>
</body>
</html>
""")
