# SPDX-License-Identifier: Apache-2.0
"""The demo's page: one HTML document, which loads nothing else."""

from __future__ import annotations

import html

__all__ = ["demo_page"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 sans-serif; color: #1f2937; background: #f3f4f6; margin: 0 auto; max-width: 960px; padding: 24px; }}
h1 {{ font-size: 28px; margin: 0; }} p {{ margin: 0 0 16px; color: #6b7280; }}
#image button {{ width: 100%; padding: 28px; border: 2px dashed #818cf8; border-radius: 8px; background: #fff; font: inherit; cursor: pointer; }}
#image button.over {{ background: #e0e7ff; }}
article {{ display: flex; flex-wrap: wrap; gap: 16px; background: #fff; border-radius: 8px; margin: 16px 0; padding: 16px; }}
figure {{ margin: 0; flex: 0 0 220px; text-align: center; font-size: 13px; color: #6b7280; overflow-wrap: anywhere; }}
figure img {{ width: 220px; height: 220px; object-fit: contain; background: #f9fafb; border-radius: 4px; }}
dl {{ flex: 1 1 300px; margin: 0; }} .bar {{ display: grid; grid-template-columns: 1fr auto; }}
dd {{ margin: 0; }} meter {{ grid-column: 1 / 3; width: 100%; height: 14px; }}
.problem {{ flex: 1 1 300px; align-self: center; background: #fef2f2; border-left: 4px solid #dc2626; color: #7f1d1d; padding: 12px; }}
</style></head>
<body><header><h1>{name}</h1><p>{about}</p></header>
<div id="image"><button type="button">Drop images here, or click to choose them</button>
<input type="file" multiple hidden></div><main></main>
<script>
"use strict";
const token = "{token}", heatMap = {heat}, button = document.querySelector("#image button");
const input = document.querySelector("#image input"), main = document.querySelector("main");
function made(kind, parent, text) {{
  const one = document.createElement(kind);
  if (text !== undefined) one.textContent = text;
  parent.append(one);
  return one;
}}
function figure(parent, source, caption) {{
  const one = made("figure", parent);
  made("img", one).src = source;
  made("figcaption", one, caption);
}}
function ask(path, file) {{
  return fetch(path, {{method: "POST", body: file, headers: {{"X-Demo-Token": token}}}});
}}
async function show(file) {{
  const card = document.createElement("article");
  main.prepend(card);
  figure(card, URL.createObjectURL(file), file.name);
  let answer;
  try {{ answer = await (await ask("/classify", file)).json(); }}
  catch (error) {{ answer = {{status: "the demo's server does not answer"}}; }}
  if (answer.status !== "ok") {{
    made("div", card, "This image cannot be read: " + answer.status).className = "problem";
    return;
  }}
  const list = made("dl", card);
  for (const [name, score] of answer.classes) {{
    const bar = made("div", list);
    bar.className = "bar";
    made("dt", bar, name);
    made("dd", bar, Math.round(100 * score) + "%");
    made("meter", bar).value = score;
  }}
  if (!heatMap) return;
  const heat = await ask("/heat", file);
  if (heat.ok) figure(card, URL.createObjectURL(await heat.blob()), "where it sees " + answer.classes[0][0]);
}}
async function showAll(files) {{ for (const file of files) await show(file); }}
button.onclick = () => input.click();
input.onchange = () => showAll([...input.files]);
document.ondragover = event => {{ event.preventDefault(); button.className = "over"; }};
document.ondragleave = () => {{ button.className = ""; }};
document.ondrop = event => {{ event.preventDefault(); button.className = ""; showAll([...event.dataTransfer.files]); }};
</script></body></html>
"""


def demo_page(name: str, about: str, token: str, heat_map: bool) -> bytes:
    """Writes the page.

    Args:
        name: The model's name.
        about: A line about it.
        token: What the page sends with each image; of letters, digits, - and _.
        heat_map: Whether the page asks for heat maps.

    Returns:
        The document in UTF-8.
    """
    return _PAGE.format(
        name=html.escape(name),
        about=html.escape(about),
        token=token,
        heat="true" if heat_map else "false",
    ).encode()
