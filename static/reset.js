// The code stands behind the link's "#", which no browser sends; from there it goes into the form, and out of the address.
(() => {
  "use strict";

  const field = document.querySelector("[data-from-hash]");
  if (!field || location.hash.length < 2) return;
  field.value = location.hash.slice(1);
  field.closest(".field").hidden = true;
  history.replaceState(null, "", location.pathname);
  document.querySelector("[name=new_password]").focus();
})();
