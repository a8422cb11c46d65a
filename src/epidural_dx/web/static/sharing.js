// The dialog with a link to what is entered now.

import { byId, fill, h, say } from "./elements.js";
import { toFragment } from "./session.js";

/** Show the link to a state. */
export function share(state) {
  const link = `${location.origin}${location.pathname}${toFragment(state)}`;
  const dialog = byId("share-dialog");
  const field = h("input", { type: "text", readOnly: true, value: link, id: "share-link", "aria-describedby": "share-hint" });
  const done = h("p", { role: "status" });
  const copy = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(link);
      say(done, "Copied.");
    } catch {
      say(done, "Press Ctrl+C to copy.");
    }
  };
  fill(dialog,
    h("div.sheet-head", {}, h("h2", { id: "share-title" }, "Share"),
      h("button.quiet", { type: "button", onclick: () => dialog.close() }, "Close")),
    h("div.sheet-body", {},
      h("label", { for: "share-link" }, "A link to what is entered now"),
      h("div.share-line", {}, field, h("button.primary", { type: "button", onclick: copy }, "Copy")),
      done,
      h("p.hint", { id: "share-hint" }, "The findings stand behind the # of the link. Browsers keep that part to themselves, so no server sees or logs it. Whoever has the link has the findings.")));
  dialog.showModal();
  field.select();
}
