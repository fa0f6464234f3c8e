// Hands what is known about an answer to the person, as a JSON file.

export function download(name, content) {
  const link = document.createElement("a");
  const address = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
