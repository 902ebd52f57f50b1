// The same package, required.
import postrider = require('postrider');

const connection: postrider.Connection = postrider.connect('https://a.example');
connection.on('message', ({ data, id }) => [data satisfies unknown, id satisfies string]);
