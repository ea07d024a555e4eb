// What the browser keeps over a reload: the files of my/, the text in the editor, and the machine
// if the visitor wants that.

const DATABASE = "container-workshop";
const TABLE = "kept";

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function wait(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// Returns what was kept under a name, or undefined.
export async function kept(name) {
  const database = await open();
  return wait(database.transaction(TABLE).objectStore(TABLE).get(name));
}

// Keeps a value under a name.
export async function keep(name, value) {
  const database = await open();
  const table = database.transaction(TABLE, "readwrite").objectStore(TABLE);
  await wait(table.put(value, name));
}

// Forgets what was kept under a name.
export async function drop(name) {
  const database = await open();
  await wait(database.transaction(TABLE, "readwrite").objectStore(TABLE).delete(name));
}

// Waits until this is the only tab with a machine, or until `take` says to take it from the other
// one. Calls lost() when another tab has taken it.
export function claim(take, lost) {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    const options = take ? { steal: true } : { ifAvailable: true };
    navigator.locks
      .request(DATABASE, options, (lock) => {
        resolve(lock !== null);
        return lock && new Promise(() => {}); // until the tab is closed
      })
      .catch(lost);
  });
}
