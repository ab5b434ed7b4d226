// Does what the lines of its input say with one JDBC connection, and answers each with a line of JSON.
//
// A line is a verb and its arguments, tabs between them. The verbs are the calls that DBeaver and DataGrip make: grids of
// rows by getObject, prepared statements by every setter, the getters of the metadata, the modes of a connection, cancel.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Calendar;
import java.util.List;
import java.util.TimeZone;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Ask {
  static String url;
  static Connection connection;

  public static void main(String[] arguments) throws Exception {
    url = arguments[0];
    connection = DriverManager.getConnection(url);
    System.out.println("{\"connected\": true}");
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String answer;
      try {
        answer = answer(line.split("\t", -1));
      } catch (Throwable error) {
        StringBuilder said = new StringBuilder(error.getClass().getSimpleName()).append(": ").append(error.getMessage());
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
          said.append(" / ").append(cause.getMessage());
        }
        answer = "{\"error\": " + quoted(said.toString()) + "}";
      }
      System.out.println(answer);
    }
    connection.close();
  }

  static String answer(String[] words) throws Exception {
    switch (words[0]) {
      case "query":
        try (Statement statement = connection.createStatement();
            ResultSet rows = statement.executeQuery(words[1])) {
          return rows(rows);
        }
      case "execute":
        try (Statement statement = connection.createStatement()) {
          if (statement.execute(words[1])) {
            return rows(statement.getResultSet());
          }
          return "{\"updated\": " + statement.getUpdateCount() + "}";
        }
      case "prepared":
        try (PreparedStatement statement = connection.prepareStatement(words[1])) {
          for (int number = 1; number < words.length - 1; number++) {
            set(statement, number, words[number + 1]);
          }
          try (ResultSet rows = statement.executeQuery()) {
            return rows(rows);
          }
        }
      case "parameters":
        try (PreparedStatement statement = connection.prepareStatement(words[1])) {
          List<String> types = new ArrayList<>();
          for (int number = 1; number <= statement.getParameterMetaData().getParameterCount(); number++) {
            types.add(quoted(statement.getParameterMetaData().getParameterTypeName(number)));
          }
          return "{\"types\": " + types + "}";
        }
      case "metadata":
        try (ResultSet rows = metadata(words)) {
          return rows(rows);
        }
      case "connection":
        return "{\"value\": " + quoted(String.valueOf(connection(words))) + "}";
      case "cancel":
        return cancelled(words[1], Long.parseLong(words[2]));
      case "pool":
        return pooled(words[1], Integer.parseInt(words[2]));
      default:
        throw new IllegalArgumentException("unknown verb " + words[0]);
    }
  }

  static String rows(ResultSet rows) throws Exception {
    ResultSetMetaData about = rows.getMetaData();
    List<String> names = new ArrayList<>();
    List<String> types = new ArrayList<>();
    for (int column = 1; column <= about.getColumnCount(); column++) {
      names.add(quoted(about.getColumnLabel(column)));
      types.add(quoted(about.getColumnTypeName(column)));
    }
    List<String> all = new ArrayList<>();
    while (rows.next()) {
      List<String> row = new ArrayList<>();
      for (int column = 1; column <= about.getColumnCount(); column++) {
        Object value;
        try {
          value = rows.getObject(column);
        } catch (Throwable error) {
          throw new Exception("getObject of column " + about.getColumnLabel(column) + ": " + error, error);
        }
        row.add(value == null ? "null" : quoted(text(value)));
      }
      all.add(row.toString());
    }
    return "{\"columns\": " + names + ", \"types\": " + types + ", \"rows\": " + all + "}";
  }

  static String text(Object value) throws Exception {
    if (value instanceof byte[]) {
      return "bytes:" + ((byte[]) value).length;
    }
    if (value instanceof java.sql.Array) {
      return java.util.Arrays.deepToString((Object[]) ((java.sql.Array) value).getArray());
    }
    return value.toString();
  }

  // setter:value, such as int:5 or timestamp:2024-01-31T12:00:00Z
  static void set(PreparedStatement statement, int number, String word) throws Exception {
    String setter = word.substring(0, word.indexOf(':'));
    String value = word.substring(word.indexOf(':') + 1);
    Calendar utc = Calendar.getInstance(TimeZone.getTimeZone("UTC"));
    switch (setter) {
      case "string": statement.setString(number, value); break;
      case "boolean": statement.setBoolean(number, Boolean.parseBoolean(value)); break;
      case "byte": statement.setByte(number, Byte.parseByte(value)); break;
      case "short": statement.setShort(number, Short.parseShort(value)); break;
      case "int": statement.setInt(number, Integer.parseInt(value)); break;
      case "long": statement.setLong(number, Long.parseLong(value)); break;
      case "float": statement.setFloat(number, Float.parseFloat(value)); break;
      case "double": statement.setDouble(number, Double.parseDouble(value)); break;
      case "decimal": statement.setBigDecimal(number, new BigDecimal(value)); break;
      case "bytes": statement.setBytes(number, value.getBytes("UTF-8")); break;
      case "date": statement.setDate(number, Date.valueOf(value)); break;
      case "time": statement.setTime(number, Time.valueOf(value)); break;
      case "timestamp": statement.setTimestamp(number, Timestamp.from(Instant.parse(value))); break;
      case "timestamp_utc": statement.setTimestamp(number, Timestamp.from(Instant.parse(value)), utc); break;
      case "object": statement.setObject(number, value); break;
      case "object_int": statement.setObject(number, Integer.valueOf(value)); break;
      case "object_double": statement.setObject(number, Double.valueOf(value)); break;
      case "object_timestamp": statement.setObject(number, Timestamp.from(Instant.parse(value))); break;
      case "null": statement.setNull(number, Integer.parseInt(value)); break;
      default: throw new IllegalArgumentException("unknown setter " + setter);
    }
  }

  static ResultSet metadata(String[] words) throws Exception {
    DatabaseMetaData about = connection.getMetaData();
    switch (words[1]) {
      case "catalogs": return about.getCatalogs();
      case "schemas": return about.getSchemas();
      case "table_types": return about.getTableTypes();
      case "tables": return about.getTables(null, null, words[2], new String[] {"TABLE", "VIEW"});
      case "columns": return about.getColumns(null, null, words[2], null);
      case "primary_keys": return about.getPrimaryKeys(null, null, words[2]);
      case "imported_keys": return about.getImportedKeys(null, null, words[2]);
      case "exported_keys": return about.getExportedKeys(null, null, words[2]);
      case "index_info": return about.getIndexInfo(null, null, words[2], false, true);
      case "type_info": return about.getTypeInfo();
      case "functions": return about.getFunctions(null, null, null);
      case "procedures": return about.getProcedures(null, null, null);
      default: throw new IllegalArgumentException("unknown getter " + words[1]);
    }
  }

  static Object connection(String[] words) throws Exception {
    DatabaseMetaData about = connection.getMetaData();
    switch (words[1]) {
      case "valid": return connection.isValid(5);
      case "catalog": return connection.getCatalog();
      case "schema": return connection.getSchema();
      case "product": return about.getDatabaseProductName();
      case "version": return about.getDatabaseProductVersion();
      case "read_only": return about.isReadOnly();
      case "quote": return about.getIdentifierQuoteString();
      case "keywords": return about.getSQLKeywords();
      case "transactions": return about.supportsTransactions();
      case "isolation": return connection.getTransactionIsolation();
      case "set_catalog": connection.setCatalog(words[2]); return connection.getCatalog();
      case "set_schema": connection.setSchema(words[2]); return connection.getSchema();
      case "set_read_only": connection.setReadOnly(true); return connection.isReadOnly();
      case "manual_commit":
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT 1")) {
          rows.next();
        }
        connection.commit();
        connection.rollback();
        connection.setAutoCommit(true);
        return connection.getAutoCommit();
      case "every_getter":
        return getters(about);
      default: throw new IllegalArgumentException("unknown call " + words[1]);
    }
  }

  // What fails of the getters without arguments that tell a number, a word or a yes; a tool calls all of them on connect.
  static String getters(DatabaseMetaData about) throws Exception {
    List<String> failed = new ArrayList<>();
    int called = 0;
    for (java.lang.reflect.Method method : DatabaseMetaData.class.getMethods()) {
      Class<?> answer = method.getReturnType();
      boolean plain = answer == boolean.class || answer == int.class || answer == String.class || answer == long.class;
      if (method.getParameterCount() > 0 || !plain) {
        continue;
      }
      called++;
      try {
        method.invoke(about);
      } catch (java.lang.reflect.InvocationTargetException error) {
        failed.add(method.getName() + ": " + error.getCause());
      }
    }
    return called + " called, failed: " + failed;
  }

  static String cancelled(String sql, long afterMs) throws Exception {
    try (Statement statement = connection.createStatement()) {
      Thread canceller = new Thread(() -> {
        try {
          Thread.sleep(afterMs);
          statement.cancel();
        } catch (Exception error) {
          throw new RuntimeException(error);
        }
      });
      canceller.start();
      long started = System.nanoTime();
      String outcome = "finished";
      try (ResultSet rows = statement.executeQuery(sql)) {
        while (rows.next()) {}
      } catch (Exception error) {
        outcome = error.toString();
      }
      canceller.join();
      return "{\"value\": " + quoted(outcome) + ", \"ms\": " + (System.nanoTime() - started) / 1000000 + "}";
    }
  }

  // Several connections at once, as a pool opens them; the first column of the first row of each.
  static String pooled(String sql, int size) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(size);
    List<Future<String>> asked = new ArrayList<>();
    for (int one = 0; one < size; one++) {
      Callable<String> task = () -> {
        try (Connection own = DriverManager.getConnection(url);
            Statement statement = own.createStatement();
            ResultSet rows = statement.executeQuery(sql)) {
          rows.next();
          return quoted(String.valueOf(rows.getObject(1)));
        }
      };
      asked.add(threads.submit(task));
    }
    List<String> answers = new ArrayList<>();
    for (Future<String> one : asked) {
      answers.add(one.get());
    }
    threads.shutdown();
    return "{\"values\": " + answers + "}";
  }

  static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char one : text.toCharArray()) {
      if (one == '"' || one == '\\') {
        out.append('\\').append(one);
      } else if (one < ' ' || one > '~') {
        out.append(String.format("\\u%04x", (int) one));
      } else {
        out.append(one);
      }
    }
    return out.append('"').toString();
  }
}
