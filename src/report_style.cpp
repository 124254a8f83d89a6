// The report's style sheet: system fonts, light and dark by the reader's preference, paper. Colours of text stand out from
// their ground by 4.5 to 1 and more, those of bars by 3 to 1; no meaning is carried by a colour alone.

#include "report_page.h"

namespace esg {

const char *const kReportStyle = R"css(
:root{color-scheme:light dark;--ground:#f6f6f3;--sheet:#fff;--ink:#1d2226;--quiet:#565e66;--line:#dcdfe2;--faint:#eceeef;
--completed:#3d8b65;--running:#2b66c4;--failed:#b9560f;--reaped:#7d3fa6;--stuck:#b3221c;--stuck-ground:#fdf0ee;--good:#24704a}
@media (prefers-color-scheme:dark){:root{--ground:#121518;--sheet:#1a1e22;--ink:#e4e7ea;--quiet:#a2abb4;--line:#343b42;
--faint:#262b30;--completed:#4f9d78;--running:#74a9f7;--failed:#ec9a55;--reaped:#c79cec;--stuck:#ff8078;
--stuck-ground:#2c1c1c;--good:#6cc498}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);overflow-wrap:break-word;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",Arial,sans-serif}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{font-size:27px;line-height:1.25;font-weight:650;letter-spacing:-.01em;margin:0 0 4px}
h2{font-size:19px;line-height:1.3;font-weight:650;margin:0 0 14px}
h3{font-size:15px;font-weight:650;margin:22px 0 8px}
h2+h3{margin-top:0}
p{margin:0 0 12px;max-width:78ch}
code,pre,.code{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
time,.figure,.span,dd{font-variant-numeric:tabular-nums}
.quiet,.note,.more,figcaption{color:var(--quiet)}
.lead{font-size:18px;line-height:1.5;margin:18px 0 20px;max-width:80ch}
.well{color:var(--good)}
section{background:var(--sheet);border:1px solid var(--line);border-radius:10px;padding:22px 24px 20px;margin:0 0 18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:0 0 22px;padding:0;list-style:none}
.tiles li{background:var(--sheet);border:1px solid var(--line);border-radius:10px;padding:12px 16px 13px}
.tiles b{display:block;font-size:26px;line-height:1.2;font-weight:620;font-variant-numeric:tabular-nums}
.tiles span{color:var(--quiet);font-size:13.5px}
.tiles .bad{border-color:var(--stuck);background:var(--stuck-ground)}
.tiles .bad b{color:var(--stuck)}
nav{margin:0 0 22px;font-size:14px}
nav a{color:var(--quiet);margin-right:16px;white-space:nowrap}
table{width:100%;border-collapse:collapse;font-size:14px;margin:0 0 4px}
th{text-align:left;font-weight:600;font-size:12.5px;color:var(--quiet);padding:0 14px 6px 0;border-bottom:1px solid var(--line);
vertical-align:bottom}
td{padding:9px 14px 9px 0;border-bottom:1px solid var(--faint);vertical-align:top;text-align:left;overflow-wrap:anywhere}
td.when,td.figure{overflow-wrap:break-word}
th:last-child,td:last-child{padding-right:0}
tr:last-child>td{border-bottom:0}
td .sub{display:block;color:var(--quiet);font-size:13px}
td.key{width:278px}
.name{display:block}
td code,td code.sub{font-size:12px}
table.numbers{margin-top:14px}
table.numbers td{padding-top:6px;padding-bottom:6px}
.axes{padding-left:58px}
.more{margin:8px 0 0;font-size:14px}
.tag{display:inline-block;border:1px solid currentColor;border-radius:4px;padding:0 6px;font-size:12.5px;font-weight:600;
white-space:nowrap}
.tag.stuck,.tag.critical,.tag.error{color:var(--stuck)}
.tag.warning,.tag.failed{color:var(--failed)}
.tag.reaped{color:var(--reaped)}
.tag.running,.tag.info{color:var(--running)}
.meter{display:block;height:5px;border-radius:3px;background:var(--faint);margin:5px 0 2px;max-width:150px;overflow:hidden}
.meter i{display:block;height:100%;background:var(--running)}
.stuck .meter i{background:var(--stuck)}
details{margin:6px 0 0}
summary{cursor:pointer;color:var(--running);font-size:13.5px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:8px 0;font-size:13px}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
.box{background:var(--faint);border-radius:6px;padding:8px 10px;margin:6px 0;max-height:320px;overflow:auto}
figure{margin:0 0 8px}
figcaption{font-size:13.5px;margin:0 0 8px}
svg{display:block;overflow:visible;width:100%}
svg text{fill:var(--quiet);font-size:11.5px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1}
.lane{display:grid;grid-template-columns:210px minmax(0,1fr);gap:0 18px;align-items:center;border-top:1px solid var(--faint)}
.lane:first-of-type{border-top:0}
.lane .who{padding:6px 0;font-size:14px;line-height:1.35;min-width:0;overflow-wrap:anywhere}
.lane .who span{display:block;color:var(--quiet);font-size:12.5px}
.plot{min-width:0;padding-right:10px}
.c{fill:var(--completed)}.u{fill:var(--running)}.f{fill:var(--failed)}
.r{fill:var(--sheet);stroke:var(--reaped);stroke-width:1.5}
.s{fill:url(#hatch);stroke:var(--stuck);stroke-width:1.5}
.hatch-ground{fill:var(--stuck-ground)}
.hatch-line{stroke:var(--stuck);stroke-width:2}
.cross{stroke:var(--reaped);stroke-width:2.2;fill:none}
.cross-ground{fill:var(--sheet)}
.bang{fill:var(--stuck)}
.bang-mark{stroke:var(--sheet);stroke-width:1.8}
.arrow{fill:var(--running)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 14px;padding:0;list-style:none;font-size:13.5px;color:var(--quiet)}
.legend li{display:flex;align-items:center;gap:7px}
.legend svg{width:34px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:20px 32px}
.charts figure{min-width:0}
.median{stroke:var(--running);stroke-width:2}
.whisker{stroke:var(--running);stroke-width:1.5;opacity:.55}
.dot{fill:var(--running)}
.top{fill:var(--sheet);stroke:var(--running);stroke-width:1.5}
footer{color:var(--quiet);font-size:13.5px;padding-bottom:40px}
footer dl{font-size:13.5px}
@media screen and (min-width:721px){
td.place{min-width:166px}
.name{white-space:nowrap}
}
@media screen and (max-width:720px){
header,main,footer{padding-left:14px;padding-right:14px}
header{padding-top:22px}
h1{font-size:23px}
.lead{font-size:16.5px;margin:12px 0 16px}
section{padding:16px 14px 14px;border-radius:8px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:8px}
.lane{grid-template-columns:minmax(0,1fr);padding:4px 0 8px}
.lane .who{padding:4px 0 2px}
.lane .who span{display:inline;margin-left:8px}
.lane.axis{padding:0}
.minor{display:none}
table,tbody,tr,td{display:block;width:100%}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
tr{border:1px solid var(--line);border-radius:8px;padding:6px 12px;margin:0 0 10px}
td,td.key{display:grid;grid-template-columns:104px minmax(0,1fr);gap:10px;padding:5px 0;border:0;width:auto}
td::before{content:attr(data-label);color:var(--quiet);font-size:12.5px;line-height:1.7}
td>div{min-width:0;overflow-wrap:anywhere}
table.numbers tr{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:2px 10px}
table.numbers td{display:block;padding:3px 0}
table.numbers td:first-child{grid-column:1/-1;font-weight:600}
table.numbers td:first-child::before{content:none}
table.numbers td::before{display:block;line-height:1.35}
dl{grid-template-columns:minmax(0,1fr)}
dd{margin-bottom:5px}
}
@media print{
:root{color-scheme:light;--ground:#fff;--sheet:#fff;--ink:#000;--quiet:#444;--line:#bbb;--faint:#e4e4e4;--completed:#3d8b65;
--running:#2b66c4;--failed:#b9560f;--reaped:#7d3fa6;--stuck:#b3221c;--stuck-ground:#fdf0ee;--good:#24704a}
@page{margin:14mm 12mm}
body{font-size:10pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
header,main,footer{max-width:none;padding:0}
nav{display:none}
section{border:0;border-top:1px solid var(--line);border-radius:0;padding:12pt 0 0;margin:0 0 14pt}
h2,h3,figcaption{break-after:avoid}
tr,.lane,.charts figure,.tiles li,dl{break-inside:avoid}
thead{display:table-header-group}
table,.lane .who{font-size:9pt}
td .sub,dl,.box,.lane .who span,figcaption,.legend{font-size:8.5pt}
td code,td code.sub,code,pre{font-size:7.5pt}
.tiles{grid-template-columns:repeat(6,1fr);gap:6pt}
.tiles b{font-size:15pt}
.tiles span{font-size:8pt}
.charts{grid-template-columns:1fr 1fr}
.lane{grid-template-columns:150px minmax(0,1fr)}
td.key{width:200px}
td.place{min-width:80px}
.name{white-space:nowrap}
.box{max-height:none;overflow:visible}
details>summary{list-style:none}
details::details-content{content-visibility:visible;display:block;height:auto}
}
)css";

}  // namespace esg
